//! The five RPCs, as a backend uses them.

use crate::{harness::*, on_both};
use doorward::pb::v1;

on_both! {
    async fn a_person_logs_in_and_is_recognised_until_logout(world: World) {
        let ann = world.person("Ann@Example.com").await;
        let acme = world.tenant("acme").await;
        world.role(&acme, "seller", &["sales:write"]).await;
        world.member(&acme, &ann, &["seller"]).await;

        let login = world.try_login("ann@example.COM", PASSWORD, "").await.unwrap();
        let tokens = login.tokens.clone().unwrap();
        assert_eq!((tokens.token_type.as_str(), tokens.expires_in), ("Bearer", 900));
        assert_eq!(login.user.as_ref().unwrap().email, "Ann@Example.com");
        assert_eq!(login.tenants.len(), 1);
        assert_eq!(login.tenants[0].permissions, ["sales:write"]);

        let answer = world.validate_with(v1::ValidateSessionRequest {
            access_token: tokens.access_token.clone(),
            tenant_id: acme.id.to_string(),
            permissions: vec!["sales:write".to_owned()],
            any_role: vec!["seller".to_owned()],
            include_tenants: true,
            ..Default::default()
        }).await.unwrap();
        assert_eq!(answer.tenant.unwrap().slug, "acme");
        assert!(!answer.superuser_access);

        let refreshed = world.refresh(&tokens.refresh_token).await.unwrap();
        assert_ne!(refreshed.refresh_token, tokens.refresh_token);

        let me = world.client().get_me(bearer(v1::GetMeRequest {}, &refreshed.access_token)).await.unwrap().into_inner();
        assert!(me.session.unwrap().current);

        let changed = world.change_password(&refreshed.access_token, PASSWORD, "another good long password").await.unwrap();
        assert_eq!(refused(world.validate(&refreshed.access_token).await), "SESSION_REVOKED");
        let fresh = changed.tokens.unwrap();
        world.validate(&fresh.access_token).await.unwrap();

        world.logout(&fresh.access_token).await.unwrap();
        assert_eq!(refused(world.validate(&fresh.access_token).await), "SESSION_REVOKED");
        assert_eq!(refused(world.refresh(&fresh.refresh_token).await), "SESSION_REVOKED");
        world.logout(&fresh.access_token).await.unwrap();
    }
}
